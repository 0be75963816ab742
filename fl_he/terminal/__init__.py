"""Output of a command during and after its work, and its end at Ctrl-C.

``progress`` follows a run, ``show`` prints finished ones.

errors      refusals and warnings as one line each
interrupt   end at Ctrl-C with all processes that were started
progress    follow a run's rounds or steps: a live view, or plain lines
show        finished runs: tables, plots, pages
validation  predictions against outcomes that their owner knows
"""
