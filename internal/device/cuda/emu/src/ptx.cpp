// What the emulation reads of PTX: the entries with their parameters, bounds and shared variables.
#include <ctype.h>
#include <stdlib.h>
#include <string.h>

#include "driver.h"

namespace emu {

namespace {

// Reader goes through text token by token: words with their dots, and single marks.
struct Reader {
	const std::string &text;
	size_t at = 0;

	std::string next() {
		skip();
		if (at >= text.size()) return "";
		size_t start = at++;
		if (is_word(text[start]))
			while (at < text.size() && is_word(text[at])) at++;
		return text.substr(start, at - start);
	}

private:
	static bool is_word(char c) { return isalnum((unsigned char)c) || c == '_' || c == '$' || c == '.' || c == '%'; }
	void skip() {
		while (at < text.size()) {
			if (isspace((unsigned char)text[at])) {
				at++;
			} else if (!text.compare(at, 2, "//")) {
				at = std::min(text.find('\n', at), text.size());
			} else if (!text.compare(at, 2, "/*")) {
				at = std::min(text.find("*/", at + 2), text.size() - 2) + 2;
			} else {
				return;
			}
		}
	}
};

// number_after reads the number that follows.
int number_after(Reader &r) { return atoi(r.next().c_str()); }

// shared reads ".align 4 .b8 name[100];" behind ".shared" and returns the bytes.
int shared(Reader &r) {
	int width = 0;
	for (std::string t = r.next(); !t.empty() && t != ";"; t = r.next()) {
		if (t == ".align") {
			r.next();
		} else if (t[0] == '.' && t.size() > 2 && isdigit((unsigned char)t[2])) {
			width = atoi(t.c_str() + 2) / 8;
		} else if (t == "[") {
			width *= number_after(r);
		}
	}
	return width;
}

Entry entry(Reader &r) {
	Entry e;
	e.name = r.next();
	std::string t = r.next();
	if (t == "(") {
		for (t = r.next(); !t.empty() && t != ")"; t = r.next()) {
			if (t != ".param") continue;
			while ((t = r.next()) == ".align") r.next();
			e.parameters.push_back(t.substr(t.empty() ? 0 : 1));
		}
		t = r.next();
	}
	for (; !t.empty() && t != "{" && t != ";"; t = r.next()) {
		if (t != ".maxntid" && t != ".reqntid") continue;
		e.max_threads = number_after(r);
		for (int i = 0; i < 2; i++) {
			r.next();
			e.max_threads *= number_after(r);
		}
	}
	if (t != "{") return e;
	for (int depth = 1; depth > 0;) {
		t = r.next();
		if (t.empty()) break;
		depth += t == "{" ? 1 : t == "}" ? -1 : 0;
		if (t == ".shared") e.shared += shared(r);
	}
	return e;
}

} // namespace

std::string parse_ptx(const std::string &text, std::vector<Entry> &entries) {
	Reader r{text};
	if (r.next() != ".version") return "does not begin with .version";
	r.next();
	if (r.next() != ".target") return "has no .target";
	std::string target = r.next();
	if (target.compare(0, 3, "sm_")) return "is for " + target;
	int sm = atoi(target.c_str() + 3), have = (int)number_setting("MODELPRESS_EMU_CAPABILITY", 90);
	if (sm > have) return "is for " + target + ", the device is an sm_" + std::to_string(have);
	for (std::string t = r.next(); !t.empty(); t = r.next())
		if (t == ".entry") entries.push_back(entry(r));
	return "";
}

} // namespace emu
