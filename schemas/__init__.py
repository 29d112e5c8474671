"""What bytes and settings look like: wire formats, segment headers, settings, topic configs. No IO; imports nothing of ours."""
