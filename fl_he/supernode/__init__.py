"""A SuperNode whose messages the app answers that is installed on the node.

By default Flower's SuperNode unpacks the bundle that the coordinator sends with a run, and runs the
code in it. Here it only talks to the SuperLink (``--isolation process``): processes of ours answer,
with an app that was imported before the first run. They never unpack or import a bundle.

Modules, in the order in which they import each other:

flower     Flower's private modules, all that are needed
child      Flower's SuperNode, in a process that ends with ours
tasks      one message answered by the installed app
processes  the SuperNode and one forked process for each message
"""
