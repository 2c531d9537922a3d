"""The book: what chapters show with, how they are run, and how the pages are built from them."""

import sys

# jsonschema, which papermill imports, would compile a grammar of web addresses at its import: 2.4 of the 3 s of
# processor time that papermill takes to start in every worker, for a check that no notebook asks for.
# With None here that import fails, and jsonschema goes without the check.
sys.modules.setdefault("rfc3987_syntax", None)
