"""What models write: prompts continued, targets written for sources."""
