"""DD2: one-step sampling of image autoregressive models by Conditional Score Distillation.

Dimension key, used in every shape comment of this package:

    B  images in a batch          L  tokens of one image        V  codebook size
    C  numbers in a code vector   K  sequential steps of the teacher
    D  width of the transformer   S  noise times drawn per token

"method §4 (5)", in comments and docstrings, is section 4, equation (5) of docs/method.md. Each
equation has one function, and a test in tests/method (tests/test_references.py checks this table):

    (1) posterior over codes      score.posterior_weights
        test_score.py::test_posterior_weights_are_bayes_rule
    (2) denoised mean             score.posterior_mean
        test_score.py::test_posterior_mean_is_that_of_the_explicit_mixture_of_gaussians
    (3) conditional score         score.conditional_score
        test_score.py::test_conditional_score_is_the_gradient_of_the_log_density
    (4) loss GTS                  losses.gts_loss
        test_losses.py::test_gts_is_zero_when_the_student_is_the_teacher_and_positive_otherwise
    (5) loss FCS                  losses.fcs_loss
        test_losses.py::test_the_minimiser_of_fcs_is_the_posterior_mean
    (6) loss CSD, SiD form        losses.csd_loss_sid
        test_losses.py::test_sid_is_its_formula_in_value_and_in_gradient
    (7) loss CSD, DMD form        losses.csd_loss_dmd
        test_losses.py::test_the_gradient_of_dmd_is_the_gap_over_omega
    (8) loss of the discriminator losses.discriminator_loss
        test_losses.py::test_the_discriminator_wants_data_high_and_samples_low
    (9) adversarial loss of G     losses.adversarial_loss
        test_losses.py::test_the_adversarial_loss_wants_samples_high
"""

from dd2core.errors import DD2Error
from dd2core.pipeline import Pipeline, Sample, load_pipeline

__all__ = ["DD2Error", "Pipeline", "Sample", "load_pipeline"]
__version__ = "0.1.0"
