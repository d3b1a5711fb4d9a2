"""The vocabulary every floor speaks: ids, time, codec, signatures, errors."""
