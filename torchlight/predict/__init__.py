"""Predictions of trained networks for new recordings.

from torchlight.predict import Recognizer

recognizer = Recognizer("work_dir/ntu/xsub/ctrgcn/joint/last.pt")
for prediction in recognizer.predict("recording.json"):
    print(prediction.person, prediction.name, prediction.probability)
"""

# ruff: noqa: E402  (the packages must be found before they are imported)
from torchlight.system.console import find_packages

find_packages()

from torchlight.predict.prediction import Prediction
from torchlight.predict.recognizer import Recognizer, Settings
from torchlight.predict.stream import Stream

__all__ = ["Prediction", "Recognizer", "Settings", "Stream"]
