"""What `fit`, `evaluate`, `predict` and `step` take, in any form, checked and made one."""
