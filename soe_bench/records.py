from soe_bench.report.load import SCHEMA, KEY, _lines, _parse_record
def read_lines(path):
    return [_parse_record(line, f"{path}:{i}") for i, line in enumerate(_lines(path), 1)]
