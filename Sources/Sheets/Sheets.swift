enum Sheets {}
