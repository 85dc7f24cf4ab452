"""From messages and pictures to text."""
