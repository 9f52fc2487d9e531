"""From prompts to responses, and from responses to what PPO learns from."""
