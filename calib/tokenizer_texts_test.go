package calib

import (
	"math/rand/v2"
	"strings"
	"unicode/utf8"
)

// The texts of the golden tests are generated, not stored: the same seed gives the same texts everywhere. The generator
// uses PCG's raw output only, whose sequence Go guarantees.

// goldenTexts is the number of texts, goldenSeed the seed of the stored goldens.
const (
	goldenTexts = 3600
	goldenSeed  = 20250117
)

type textMaker struct{ pcg *rand.PCG }

func newTextMaker(seed uint64) *textMaker { return &textMaker{rand.NewPCG(seed, 0x9E3779B97F4A7C15)} }

// n returns a number in [0, most).
func (m *textMaker) n(most int) int { return int(m.pcg.Uint64() >> 11 % uint64(most)) }

func (m *textMaker) pick(from []string) string { return from[m.n(len(from))] }

// makeTexts returns count texts of all kinds in turn; the first are empty or very short.
func makeTexts(seed uint64, count int) []string {
	m := newTextMaker(seed)
	kinds := []func() string{m.code, m.prose, m.emoji, m.marks, m.unicode, m.blanks, m.numbers, m.contractions, m.specials, m.runs, m.mixture, m.mixture}
	texts := []string{"", " ", "  ", "\n", "\r\n", "\t", "a", "'", "'s", " a", "a ", "▁", "\x00", "\u00a0", "\u3000x", "<", "é", "e\u0301", "\u0301", "日", "🙂"}
	for i := 0; len(texts) < count; i++ {
		texts = append(texts, kinds[i%len(kinds)]())
	}
	return texts[:count]
}

var codeLines = []string{"func main() {", "\tif err != nil {", "\t\treturn nil, fmt.Errorf(\"open %s: %w\", name, err)", "\t}", "}", "",
	"for i := 0; i < len(x); i++ {", "    def forward(self, x: Tensor) -> Tensor:", "        return x @ self.w.T + self.b  # noqa: E501",
	"#include <stdio.h>", "int main(void) { return 0x7fff & ~1; }", "<div class=\"a-b\">&nbsp;</div>", "{\"key\": [1, 2.5e-10, null, true]}",
	"SELECT * FROM t WHERE a='it''s' AND b<>3;", "// TODO(someone): don't   do this", "/* ---------- */", "x = [[1,2],[3,4]]; y=x**2", "path/to/file.go:123:45: undefined: foo_bar",
	"const MaxInt64 = 1<<63 - 1", "camelCaseName, HTTPServerURL, snake_case_name, SCREAMING_CASE", "std::vector<std::pair<int,int>> v{{1,2}};",
	"$ curl -sSL https://example.org/a?b=c&d=%20e | sh", "λ x → x ∘ f⁻¹", "@@ -1,7 +1,7 @@", "\\begin{equation} \\sum_{i=1}^{n} x_i^2 \\end{equation}", "!!! ??? ... ,,, ;;; ::: --- === +++"}

func (m *textMaker) code() string {
	var b strings.Builder
	for range 1 + m.n(8) {
		b.WriteString(strings.Repeat([]string{"\t", " ", "  ", "    "}[m.n(4)], m.n(4)))
		b.WriteString(m.pick(codeLines))
		b.WriteString(m.pick([]string{"\n", "\n", "\n\n", "\r\n", " \n", "\n\n\n", ""}))
	}
	return b.String()
}

var words = []string{"the", "quick", "Brown", "FOX", "jumps", "over", "naïve", "façade", "Ünïcödé", "straße", "ŒUVRE", "dʼaccord", "ǅungla", "ﬁnal", "ſhip", "ªº", "Привет", "мир", "Й", "ελληνικά", "Σίσυφος",
	"שלום", "עוֹלָם", "مرحبا", "بِسْمِ", "नमस्ते", "दुनिया", "ক্ষ", "தமிழ்", "ภาษาไทย", "ลาว", "မြန်မာ", "ខ្មែរ", "한국어", "조선말", "ᄒ\u1161ᆫ", "日本語", "テスト", "ﾃｽﾄ", "中文字符", "繁體字", "𠮷野家", "አማርኛ", "ქართული",
	"Հայերեն", "ᏣᎳᎩ", "ꭰꮳ", "𐐀𐐨", "𝒜𝓫𝔠", "Việt", "Vie\u0323\u0302t", "ǆ", "İstanbul", "ıI", "x₂", "m²", "½", "Ⅷ", "№", "™", "don't", "I'LL", "we’ve", "rock'n'roll", "o'clock", "'tis", "l'été", "U.S.A.", "e.g.,", "e-mail", "C++", "C#", "node.js",
	"\u1c89\u1c8a", "\U00010d50\U00010d70", "\U000105d2\u0307", "\u0897x", "\U00016d63\U00016d67", "\ua7cb\ua7cd", "\U0002ebf0"}

func (m *textMaker) prose() string {
	var b strings.Builder
	for i := range 1 + m.n(25) {
		if i > 0 {
			b.WriteString(m.pick([]string{" ", " ", " ", " ", ", ", ". ", "  ", "\n", "; ", "—", "\u00a0", ""}))
		}
		b.WriteString(m.pick(words))
	}
	return b.String() + m.pick([]string{"", ".", "!", "…", "。", "？", " "})
}

var emoji = []string{"🙂", "👍🏽", "👩‍👩‍👧‍👦", "🏳️‍🌈", "🇩🇪", "🇺🇸🇯🇵", "1️⃣", "❤️‍🔥", "🧑🏿‍🚀", "☺️", "✅", "→", "⇒", "∑", "█▓░", "🏴\U000e0067\U000e0062\U000e007f", "\u200d", "\ufe0f", "\u20e3", "😀😀😀"}

func (m *textMaker) emoji() string {
	var b strings.Builder
	for range 1 + m.n(12) {
		b.WriteString(m.pick(emoji))
		b.WriteString(m.pick([]string{"", "", " ", "ok", "\n", "'s", "3"}))
	}
	return b.String()
}

var combining = []rune{0x300, 0x301, 0x302, 0x303, 0x307, 0x308, 0x30a, 0x316, 0x323, 0x327, 0x328, 0x331, 0x334, 0x338, 0x340, 0x343, 0x344, 0x345, 0x35c, 0x360, 0x483, 0x591, 0x5b0, 0x64b, 0x651, 0x653, 0x670, 0x93c, 0x94d, 0x9be, 0xbd7,
	0xdca, 0xdcf, 0xe38, 0xf71, 0xf72, 0xf73, 0x1037, 0x1161, 0x11a8, 0x20d0, 0x20dd, 0x302a, 0x3099, 0x309a, 0xfb1e, 0xfe20, 0x1d165, 0x1d16e, 0x110ba, 0x11127, 0x897, 0x1ac1, 0x1df6, 0x10eab, 0x1e130, 0x113c9, 0x11930, 0x16d67, 0x307}

var bases = []string{"a", "e", "o", "A", "U", "q", "x", "ö", "ǭ", "ự", "α", "ᾳ", "ا", "ש", "क", "ড", "ெ", "ෙ", "か", "ｶ", "ᄀ", "가", "각", "1", " ", "\n", "'", "≠", "=", "<", "\u1100", "\u212b", "\u2126", "\uf900", "\u2adc", "\u0958", "\ufb2a", "\U0001d15e", "\U0002f800", "\u1e9b", "\U00011382", "\U00011935", "\U00016d63", "\U000105da", ""}

func (m *textMaker) marks() string {
	var b strings.Builder
	for range 1 + m.n(20) {
		b.WriteString(m.pick(bases))
		count := m.n(4)
		if m.n(25) == 0 {
			count = m.n(90)
		}
		for range count {
			b.WriteRune(combining[m.n(len(combining))])
		}
	}
	return b.String()
}

// unicode returns random scalar values: any of them, or from one block, or near a place where classes change.
func (m *textMaker) unicode() string {
	var b strings.Builder
	spread, base := 0x110000, 0
	switch m.n(4) {
	case 0:
		spread = 0x3000
	case 1:
		spread = 0x20000
	case 2:
		spread, base = 0x80, 0x80*m.n(0x32400/0x80)
	}
	for range 1 + m.n(40) {
		r := rune(base + m.n(spread))
		if utf8.ValidRune(r) {
			b.WriteRune(r)
		}
		if m.n(6) == 0 {
			b.WriteString(m.pick([]string{" ", "\n", "a", "1", "'", "\u0301"}))
		}
	}
	return b.String()
}

var blankRunes = []string{" ", " ", " ", "\n", "\n", "\r", "\t", "\r\n", "\v", "\f", "\u0085", "\u00a0", "\u1680", "\u2000", "\u2003", "\u200a", "\u2028", "\u2029", "\u202f", "\u205f", "\u3000", "\u200b", "\ufeff", "\u180e", "\x1c", "\x1f", "▁"}

func (m *textMaker) blanks() string {
	var b strings.Builder
	for range 1 + m.n(12) {
		for range m.n(6) {
			b.WriteString(m.pick(blankRunes))
		}
		b.WriteString(m.pick([]string{"a", "B", "7", "!", "'s", "é", "//", "/\n/", "(", "日", "", "\u0301"}))
	}
	for range m.n(5) {
		b.WriteString(m.pick(blankRunes))
	}
	return b.String()
}

var digitRunes = []string{"0", "1", "2", "3", "4", "5", "6", "7", "8", "9", "٣", "۴", "५", "๗", "７", "²", "½", "Ⅳ", "㉈", "〇", "𝟘", "𐄇", "\U00011de3", "\U00016ff5", "\U00010d41", "\U0001ccf3"}

func (m *textMaker) numbers() string {
	var b strings.Builder
	for range 1 + m.n(10) {
		for range m.n(12) {
			if m.n(4) > 0 {
				b.WriteString(digitRunes[m.n(10)])
			} else {
				b.WriteString(m.pick(digitRunes))
			}
		}
		b.WriteString(m.pick([]string{" ", ".", ",", "e-", "x", "$", "%", "\n", "km", "-", "/", "", "'s"}))
	}
	return b.String()
}

var suffixes = []string{"'s", "'t", "'re", "'ve", "'m", "'ll", "'d", "'S", "'T", "'RE", "'Ve", "'M", "'lL", "'D", "'ſ", "'ſt", "’s", "''s", "'", "'r", "'l", "'v", "'x", "'sx", "'ß", "'Ls", "'K", "'é", "'1", "' s", "\"s", "`s"}

func (m *textMaker) contractions() string {
	var b strings.Builder
	for range 1 + m.n(15) {
		b.WriteString(m.pick([]string{"it", "IT", "We", "1", "é", "日本", " ", "\n", "_", "a\u0301", "ǅ", ""}))
		b.WriteString(m.pick(suffixes))
		b.WriteString(m.pick([]string{"", " ", " ", "go", "\n", "."}))
	}
	return b.String()
}

// specialParts are the added tokens of the golden tokenizers, pieces of them and what stands around them.
var specialParts = []string{"<|endoftext|>", "<|begin_of_text|>", "<|end_of_text|>", "<|eot_id|>", "<|start_header_id|>", "<|reserved_special_token_1|>", "<|reserved_special_token_12|>", "<|im_start|>", "<|im_end|>", "<tool_call>", "</tool_call>", "<think>",
	"<s>", "</s>", "<unk>", "<0x0A>", "<0xE6>", "[INST]", "[/INST]", "<|end", "oftext|>", "<|", "|>", "<", "<s", "word", "sword", "words", "lefty", "righty", "both", "Norm Token", "norm", "e\u0301clair", "éclair", "   ", "\t\t", "Ⓐword", "word\u200d", "_word_", "\u0301word"}

func (m *textMaker) specials() string {
	var b strings.Builder
	for range 1 + m.n(12) {
		b.WriteString(m.pick(specialParts))
		b.WriteString(m.pick([]string{"", "", " ", "  ", "\n", "user", "\u00a0", " \t ", ".", "x"}))
	}
	return b.String()
}

// runs repeats one short thing up to 3000 bytes.
func (m *textMaker) runs() string {
	unit := m.pick([]string{"a", "A", " ", "\n", "\t", "0", "=", "-", "ab", "日", "é", "🙂", "▁", "'", "\u0301", "aa b", "xY", " \n", "\r\n", "the", "ß", "<", "ª", "AªA"})
	return m.pick([]string{"", "x", " ", "\n"}) + strings.Repeat(unit, 1+m.n(3000)/len(unit)/(1+m.n(8))) + m.pick([]string{"", "x", " ", "\n", "!"})
}

func (m *textMaker) mixture() string {
	kinds := []func() string{m.code, m.prose, m.emoji, m.marks, m.unicode, m.blanks, m.numbers, m.contractions, m.specials}
	var b strings.Builder
	for range 2 + m.n(3) {
		b.WriteString(kinds[m.n(len(kinds))]())
		b.WriteString(m.pick([]string{"", " ", "\n", "\n\n"}))
	}
	return b.String()
}
