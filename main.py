"""Train, test and inspect skeleton-based action recognition.

python main.py --config config/NW-UCLA/ctrgcn.yaml --phase train
python main.py --config config/NW-UCLA/ctrgcn.yaml --phase test --weights work_dir/NW-UCLA/ctrgcn/joint/last.pt \
    --save-score true
"""

import sys

from torchlight.system.command import start

if __name__ == "__main__":
    sys.exit(start("torchlight.commands.main"))
