"""An appliance's whole content out into a folder, and back into an empty data folder: `nautilus export`, `import`.

Databases go as dumps, which another major version of PostgreSQL reads; everything else as tar files. A manifest,
written last, says what there is and what each file's SHA-256 is: without it a folder is no export.
"""
