"""Predictions of trained networks for new recordings.

from torchlight.predict import Recognizer

recognizer = Recognizer("work_dir/ntu/xsub/ctrgcn/joint/last.pt")
for prediction in recognizer.predict("recording.json"):
    print(prediction.person, prediction.name, prediction.probability)
"""

from torchlight.predict.recognizer import Prediction, Recognizer, Settings

__all__ = ["Prediction", "Recognizer", "Settings"]
