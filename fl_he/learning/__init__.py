"""Statistics and machine learning, without Flower and without encryption.

Start with ``regression``, whose ``family`` says what a model is, and ``optimizers``, which say how
the next model follows from a round; ``tables`` has the data that both work on. ``privacy`` is
differential privacy for gradients and sums, and ``voting`` is what CaPC's parties compute.

scikit-learn, pyarrow, scipy and dp-accounting are imported only inside the functions that need
them: a deployed client starts a new process for every message, and most messages need none of
them.

errors      refusals of this room
tables      data: files, datasets, partitions, scaling, sums
regression  families of models: training, evaluation, inference, files
privacy     clipped gradients, noise, and what noise is worth
optimizers  steps from one model to the next
describing  descriptive statistics without small counts
voting      CaPC's answering models, votes and their cost
"""
