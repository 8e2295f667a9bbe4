//! How errors look.

use proptest::prelude::*;

use super::parse;
use crate::config::{Style, load};

#[test]
fn an_error_shows_file_line_column_and_the_text_underlined() {
    let text = "# Balancer\n[load_balancer]\nadress = \"127.0.0.1\"\n[[server]]\n";
    let report = parse(text).expect_err("misspelt");
    assert_eq!(
        report.to_string(),
        "error: unknown key `adress`, did you mean `address`?
 --> config.toml:3:1
  |
3 | adress = \"127.0.0.1\"
  | ^^^^^^"
    );
}

#[test]
fn two_places_and_a_hint_are_shown() {
    let text =
        "[[pool]]\nname = \"a\"\n[[pool]]\nname = \"a\"\n[[server]]\n[[server]]\npool = \"a\"";
    let report = parse(text).expect_err("two pools of one name");
    assert_eq!(
        report.to_string(),
        "error: another pool is called `a`: choose another name
 --> config.toml:4:8
  |
2 | name = \"a\"
  |        --- the first one
3 | [[pool]]
4 | name = \"a\"
  |        ^^^"
    );
}

#[test]
fn columns_count_characters_not_bytes() {
    let report = parse("[[server]]\nname = \"größe\" # ü\n\"ö\" = 1").expect_err("unknown key");
    assert_eq!(report.lines().next().unwrap().split(": ").next(), Some("config.toml:3:1"));
    let report = parse("server = [{ name = \"ü\", prt = 1 }]").expect_err("unknown key");
    assert_eq!(report.lines().next().unwrap().split(": ").next(), Some("config.toml:1:25"));
    assert!(report.to_string().contains("config.toml:1:25"), "{report}");
}

#[test]
fn lines_may_end_as_on_windows() {
    let report = parse("[[server]]\r\nport = 1\r\nprt = 1\r\n").expect_err("unknown key");
    assert!(report.to_string().contains("config.toml:3:1"), "{report}");
    assert!(report.lines().next().unwrap().starts_with("config.toml:3:1: "));
}

#[test]
fn a_byte_order_mark_is_no_error() {
    parse("\u{feff}[[server]]\nport = 1\n").unwrap();
}

#[test]
fn every_error_is_rendered() {
    let report = parse("[runtime]\na = 1\nb = 2\n[[server]]").expect_err("two unknown keys");
    assert_eq!(report.count(), 2);
    assert_eq!(report.to_string().matches("error: unknown key").count(), 2);
}

#[test]
fn colours_are_for_terminals() {
    let report = parse("[runtime]\na = 1\n[[server]]").expect_err("unknown key");
    assert!(!report.render(Style::Plain).contains('\u{1b}'));
    assert!(report.render(Style::Coloured).contains('\u{1b}'));
}

#[test]
fn a_file_that_is_not_there_is_a_report_too() {
    let report = load("no/such/config.toml".as_ref()).expect_err("there is no such file");
    let text = report.to_string();
    assert!(text.starts_with("error: cannot read `no/such/config.toml`: "), "{text}");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn no_text_makes_reading_or_rendering_fail(text in "(\\PC|[\\[\\]=\"\n\r\t#']|port|server|load_balancer){0,60}") {
        if let Err(report) = parse(&text) {
            prop_assert!(report.count() > 0);
            prop_assert!(!report.to_string().is_empty());
            prop_assert_eq!(report.lines().count(), report.count());
        }
    }

    #[test]
    fn a_valid_file_with_one_line_replaced_is_valid_or_reported(line in 0_usize..18, text in "\\PC{0,40}") {
        let mut lines: Vec<&str> = include_str!("../../../../config.toml").lines().collect();
        if let Some(place) = lines.get_mut(line) {
            *place = &text;
        }
        if let Err(report) = parse(&lines.join("\n")) {
            prop_assert!(!report.to_string().is_empty());
        }
    }
}
