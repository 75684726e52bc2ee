"""Fuse the score files of several streams, or compare two runs.

python ensemble.py --dataset NW-UCLA
python ensemble.py --dataset ntu120/xset --model ctrgcn --preset pyskl --search true
python ensemble.py --dataset NW-UCLA --joint-dir work_dir/NW-UCLA/ctrgcn/joint \
    --bone-dir work_dir/NW-UCLA/ctrgcn/bone --alpha 0.6 0.4
python ensemble.py --dataset NW-UCLA --scores a/epoch1_test_score.pkl b/epoch1_test_score.pkl c.pkl --alpha 1 1 0.5
python ensemble.py --dataset NW-UCLA --compare work_dir/NW-UCLA/ctrgcn/joint work_dir/NW-UCLA/stgcn/joint
"""

import sys

from torchlight.system.command import start

if __name__ == "__main__":
    sys.exit(start("torchlight.fusion.cli"))
