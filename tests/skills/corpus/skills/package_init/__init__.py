raise RuntimeError("a skill folder is not run as a package")
