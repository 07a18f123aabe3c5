"""Training that survives: backups of everything, and going on from them."""

from rnnzoo.training.backup.callback import BackupAndResume

__all__ = ["BackupAndResume"]
