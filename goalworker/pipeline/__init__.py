"""The journey of a record: fetch, decode, match, record facts, judge, publish, commit."""
