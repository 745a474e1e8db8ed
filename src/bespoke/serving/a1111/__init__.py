"""The part of A1111's protocol that its clients use."""
