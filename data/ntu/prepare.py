"""NTU RGB+D 60: skeleton files -> clip store.

    python data/ntu/prepare.py --raw nturgb+d_skeletons
    python data/ntu/prepare.py --raw nturgb+d_skeletons --recipe agcn

Recipes: ctrgcn (CTR-GCN, TSGCNeXt, DKE students and most later work), agcn (2s-AGCN, MS-G3D), stgcn (ST-GCN). A
published checkpoint needs the recipe that it was trained with. Splits: xsub (training clips: 20 of 40 performers) and
xview (training clips: cameras 2 and 3).
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from data.cli import main
from data.ntu.benchmark import NTU60, benchmark

BENCHMARK = benchmark(NTU60)

if __name__ == "__main__":
    sys.exit(main(BENCHMARK, __doc__))
