"""What is on disk: the format of a feature cache, its writer and its reader."""
