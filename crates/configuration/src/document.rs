//! The documentation's tables, made from the declarations.

use crate::keys::KeySet;

/// A Markdown table of all keys, in the order of declaration.
pub fn markdown_table(keys: &dyn KeySet) -> String {
    let mut table =
        String::from("| key | meaning | type | default | accepted |\n|---|---|---|---|---|\n");
    for key in keys.keys() {
        let unit = if key.unit.is_empty() {
            String::new()
        } else {
            format!(", {}", key.unit)
        };
        let default = if key.default.is_empty() {
            "–".to_owned()
        } else {
            format!("`{}`", key.default)
        };
        let bounds = if key.bounds.is_empty() {
            String::new()
        } else {
            format!("`{}`", key.bounds)
        };
        let doc = key.doc.replace('|', "\\|");
        table.push_str(&format!(
            "| `{}` | {doc} | {}{unit} | {default} | {bounds} |\n",
            key.name, key.type_name
        ));
    }
    table
}
