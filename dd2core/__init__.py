"""DD2: one-step sampling of image autoregressive models by Conditional Score Distillation.

Dimension key, used in every shape comment of this package:

    B  images in a batch          L  tokens of one image        V  codebook size
    C  numbers in a code vector   K  sequential steps of the teacher
    D  width of the transformer   S  noise times drawn per token
"""

from dd2core.errors import DD2Error
from dd2core.pipeline import Pipeline, Sample, load_pipeline

__all__ = ["DD2Error", "Pipeline", "Sample", "load_pipeline"]
__version__ = "0.1.0"
