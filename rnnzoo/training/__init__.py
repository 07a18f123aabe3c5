"""How models are trained: the step, its windows, the state carried between batches, callbacks."""
