"""Optimizers: the next model from loss, gradient and, if asked for, Hessian of the last one.

Start with ``base``, which has the interface and the optimizers that take every step they try;
those of ``damped`` halve a step that was too long. ``registry`` has the names.

base      interface, penalty, gradient descent and Nesterov's
damped    Newton's method and L-BFGS, with steps that are halved while the loss would rise
registry  optimizers by name
"""
