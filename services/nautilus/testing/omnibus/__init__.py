"""A stand-in for GitLab's Omnibus package: its layout and its commands, with our own forge for GitLab.

It holds the package's place in tests, since the package is large and not to be had everywhere. What is real in such
a test: everything of Nautilus, gitlab.rb as text (read by a parser of the part of Ruby that we write), the database's
role, extensions and access, Git, the API. What is not: GitLab itself, Chef, runit, Ruby.

`package.py` writes the tree or the .deb; `evaluate.py` reads gitlab.rb; `ctl.py`, `rails.py` and `runsvdir.py` are
gitlab-ctl, gitlab-rails and runsvdir.
"""
