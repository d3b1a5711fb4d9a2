from .models import Output

NOTHING_TO_OVERRIDE = Output
