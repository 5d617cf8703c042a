"""The commands of `l2s`, one file a theme. Nothing heavy is imported until a command runs."""
