"""Words made known to a model: rows for new tokens, chosen, refined and judged."""
