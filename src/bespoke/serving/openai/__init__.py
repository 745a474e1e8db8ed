"""OpenAI's protocol for pictures: what is asked by it, what is answered, what comes on the way."""
