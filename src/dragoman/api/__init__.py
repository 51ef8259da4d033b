"""What callers see, without a framework: joint configuration, outputs, checks of arguments."""
