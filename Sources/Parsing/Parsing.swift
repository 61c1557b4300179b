enum Parsing {}
