"""Differential privacy of summed gradients and of sums that scale features.

Start with ``gradients``, which has the mechanism and its terms. ``accounting`` converts between
noise and epsilon, by Google's dp-accounting.

accounting         noise as epsilon and delta, and back
descent            clip, learning rate and rounds that suit patients, features and noise
discrete_gaussian  exact samples of noise
gradients          clipped gradients, noise shares and what they are worth
integer_releases   exact privacy of counts with discrete Gaussian noise
scaling            mean and variance from noisy sums within declared ranges
"""
