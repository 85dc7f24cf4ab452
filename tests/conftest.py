"""Settings that must hold before TVM or numpy start their thread pools."""

import os

# Timings and tests share small machines: two threads, and no more than there are cores.
os.environ.setdefault("TVM_NUM_THREADS", str(min(2, os.cpu_count() or 1)))
