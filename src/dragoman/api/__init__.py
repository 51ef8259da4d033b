"""Names and rules of the public interface, without a framework: joint configuration, outputs, checks of arguments."""
