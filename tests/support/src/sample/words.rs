//! What the sample's values are drawn from.

/// Text that some layer is likely to spoil: by escaping, trimming, normalising, folding, or reading it as something.
pub(super) const AWKWARD_TEXTS: [&str; 31] = [
    "",
    " ",
    "  spaces around  ",
    "O'Brien said \"no\" \\ twice",
    "100% of under_score",
    // The null marker and the end marker of PostgreSQL's COPY.
    "\\N",
    "\\.",
    "NULL",
    "null",
    "e\u{301}clair (combining)",
    "\u{e9}clair (composed)",
    "שלום עולם",
    "مرحبا \u{202e}turned\u{202c} بالعالم",
    "👩\u{200d}👩\u{200d}👧\u{200d}👦 🇮🇸 🏳\u{fe0f}\u{200d}🌈",
    "漢字かな交じり文 𠮷野家",
    "tab\there, line\nfeed, return\r\nand\rmore",
    "\u{1}\u{2}\u{8}\u{c}\u{1b}[31mred\u{7f}\u{85}",
    "\u{feff}mark\u{200b}zero width\u{2028}line\u{2029}paragraph",
    "Straße İSTANBUL ısı ǅ ﬁ Σίσυφος",
    "'; DROP TABLE accounts; --",
    "$1 $$ ?1 :name @name {} %s {{x}}",
    "{\"looks\": [\"like\", \"json\"]}",
    "2024-01-01T00:00:00+00:00",
    "007",
    "1e10",
    "true",
    "<script>alert(1)</script>&amp;",
    "\u{10ffff}\u{fffd}\u{e000}",
    "comma, semicolon; pipe| quote\" tab\t",
    "C:\\temp\\new\\x41\\u0041",
    "0b4bd8a5-5a0c-4d0c-9a51-0123456789ab",
];

/// Every kind of JSON, as people and programs write it.
pub(super) const JSON_TEXTS: [&str; 28] = [
    r#"{"street":"1 Main St","city":"Reykjavík","geo":{"lat":64.1466,"lon":-21.9426},"tags":["hq","billing"]}"#,
    r#"{ "z" : 1, "a" : [ true , false , null ] , "Z" : "upper", "é" : 2 }"#,
    r#"[1,"two",3.0,null,{"four":4}]"#,
    r#""just a string""#,
    r#""""#,
    "1e30",
    "0.1",
    "-0",
    "-0.0",
    "1.0",
    "1E-7",
    "-12.50",
    // The first integer that a double cannot hold.
    "9007199254740993",
    "-9223372036854775808",
    "true",
    "false",
    "null",
    "{}",
    "[]",
    " [ ] ",
    r#"{"caf\u00e9":"\u0041\u030a","emoji":"\ud83d\ude00","rest":"\"\\\/\b\f\n\r\t\u0001"}"#,
    r#"{"":1," ":2,"a.b":3,"$":4,"ключ":"значение","'":"\"","%":"_"}"#,
    r#"{"a":1,"a":2}"#,
    "[[[[[[[[]]]]]]]]",
    r#"{"a":null}"#,
    r#"[0,1,10,100,1000,1e2,1.50,1.5]"#,
    r#"{"b":{"d":{},"c":[]},"a":""}"#,
    r#""null""#,
];

pub(super) const FIRST_NAMES: [&str; 12] =
    ["Ada", "Björk", "Chidi", "Dana", "Émile", "Fatima", "Guðrún", "Håkon", "Ines", "José", "Keiko", "Łukasz"];
pub(super) const LAST_NAMES: [&str; 11] = [
    "Lovelace",
    "O'Connor",
    "Müller",
    "Nguyễn",
    "de la Cruz",
    "Smith",
    "Smith-Jones",
    "Şahin",
    "Þórsdóttir",
    "李",
    "Ng",
];
pub(super) const COMPANIES: [&str; 9] = [
    "Northwind Traders",
    "Contoso, Ltd.",
    "Fabrikam \"Events\"",
    "Blå Fjord AS",
    "Weddings & More",
    "100% Party",
    "Smith Bros",
    "株式会社サンプル",
    "Crème Brûlée SARL",
];
pub(super) const CITIES: [&str; 7] = ["Reykjavík", "New York", "São Paulo", "Zürich", "Kraków", "東京", "Springfield"];
pub(super) const STATES: [&str; 6] = ["NY", "CA", "TX", "WA", "IL", "ZH"];
pub(super) const COUNTRIES: [&str; 5] = ["US", "IS", "BR", "CH", "JP"];
pub(super) const STREETS: [&str; 6] =
    ["1 Main St", "22½ Elm Street", "Laugavegur 7", "Bahnhofstraße 1", "Rua Augusta, 1500", "5th Ave #300"];
pub(super) const TRADES: [&str; 6] = ["hospitality", "retail", "software", "non-profit", "weddings", "government"];
pub(super) const JOBS: [&str; 6] = ["CEO", "Event planner", "Buyer", "Office manager", "Directrice", "Accountant"];
pub(super) const STAGES: [&str; 6] =
    ["prospecting", "qualification", "proposal", "negotiation", "closed_won", "closed_lost"];
pub(super) const KINDS: [&str; 6] = ["wedding", "corporate", "birthday", "festival", "conference", "single_day"];
pub(super) const SUBJECTS: [&str; 8] = [
    "Follow up",
    "Send the quote",
    "Photo booth, 4 hours",
    "Call back after lunch",
    "Contract signed?",
    "Backdrop proof",
    "Spring gala",
    "Invoice reminder",
];

/// Dates at the edges that every engine and chrono have in common.
pub(super) const DATES: [(i32, u32, u32); 8] = [
    (1, 1, 1),
    (9999, 12, 31),
    (2024, 2, 29),
    (2000, 2, 29),
    (1900, 2, 28),
    (1969, 12, 31),
    (1970, 1, 1),
    (1582, 10, 10),
];

/// Times of day as seconds and microseconds.
pub(super) const TIMES: [(u32, u32); 6] =
    [(0, 0), (86_399, 999_999), (43_200, 0), (34_200, 500_000), (1, 1), (86_340, 0)];

/// Instants as microseconds since 1970: the edges of the calendar, of the epoch, a leap day, a leap second's eve.
pub(super) const INSTANTS: [i64; 9] = [
    -62_135_596_800_000_000,
    253_402_300_799_999_999,
    0,
    -1,
    -2_177_452_800_000_000,
    1_709_210_096_000_001,
    1_483_228_799_999_999,
    1_704_067_200_000_000,
    -86_400_000_000,
];
