//! Keys that an address or a header holds. RPCs repeat them in what they say, and that is quoted in errors.

use std::borrow::Cow;

use reqwest::Url;

/// What is shorter is more likely a word than a key, in bytes.
const SHORTEST: usize = 12;
/// Texts of errors are short. What is longer is not searched.
const LONGEST_TEXT: usize = 64 * 1024;

#[derive(Clone, Default)]
pub(super) struct Secrets(Vec<Vec<u8>>);

impl Secrets {
    /// The parts of an address's path and query, and the values of headers.
    pub(super) fn of(url: &Url, headers: &[(String, String)]) -> Self {
        let path = url.path().split('/').map(Cow::from);
        let query = url.query_pairs().map(|(_, value)| value);
        let headers = headers.iter().flat_map(|(_, value)| value.split_whitespace()).map(Cow::from);
        let all = path.chain(query).chain(headers).filter(|text| text.len() >= SHORTEST);
        Self(all.map(|text| text.into_owned().into_bytes()).collect())
    }

    /// The text without them.
    pub(super) fn hide<'a>(&self, text: &'a [u8]) -> Cow<'a, [u8]> {
        let mut text = Cow::Borrowed(text);
        if text.len() > LONGEST_TEXT {
            return text;
        }
        for secret in &self.0 {
            let mut from = 0;
            while let Some(at) = text[from..].windows(secret.len()).position(|window| window == secret) {
                text.to_mut().splice(from + at..from + at + secret.len(), *b"***");
                from += at + 3;
            }
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_hidden_and_words_are_not() {
        let url = Url::parse("https://rpc.example.org/v3/0123456789abcdef?key=secret-of-mine").expect("a URL");
        let secrets = Secrets::of(&url, &[("authorization".into(), "Bearer abcdefghijkl".into())]);
        let hidden = |text: &str| String::from_utf8(secrets.hide(text.as_bytes()).into_owned()).expect("text");
        assert_eq!(hidden("no 0123456789abcdef, nor 0123456789abcdef"), "no ***, nor ***");
        assert_eq!(hidden("secret-of-mine and abcdefghijkl of v3"), "*** and *** of v3");
        assert_eq!(hidden(""), "");
    }
}
