"""Gets a machine ready to build embedmill; `python3 scripts/setup` runs it.

Each module imports only modules that come before it in this list:

  places          where the repository, the cache folder and the build's output are
  report          messages and progress for the user, and the error that ends a setup
  fetch           the cache's lock, folders that appear whole or not at all, downloads by pip
  prerequisites   the tools and the disk space that a build needs, and how to get them
  libtorch        libtorch, downloaded or linked from an installed PyTorch
  models          the real model of the demo, the tests and the benchmarks
  __main__        arguments and the order of steps

Other scripts import what they share with it, for example `from setup.places import cache_folder`, with the folder
scripts/ on their path.
"""
