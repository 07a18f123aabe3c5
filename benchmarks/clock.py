"""The clock of a contestant, and its cores: all that there are, or one.

Where others use the machine too, time says more about them, and threads that wait for one another
wait for them. One core and processor time still compare programs.
"""

import os
import time

ONE_CORE = "BENCHMARKS_ON_ONE_CORE"  # in the environment of a contestant
_ONE = bool(os.environ.get(ONE_CORE))
if _ONE:  # before a library counts its cores
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})

CORES = 1 if _ONE else os.cpu_count()
now = time.process_time if _ONE else time.perf_counter
