"""NTU RGB+D 120: skeleton files of both downloads -> clip store.

    python data/ntu120/prepare.py --raw nturgbd_skeletons_s001_to_s017 nturgbd_skeletons_s018_to_s032

Recipes: ctrgcn, agcn (MS-G3D), stgcn; see data/ntu/prepare.py. Splits: xsub (training clips: 53 of 106 performers) and
xset (training clips: even setups).
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from data.cli import main
from data.ntu.benchmark import NTU120, benchmark

BENCHMARK = benchmark(NTU120)

if __name__ == "__main__":
    sys.exit(main(BENCHMARK, __doc__))
