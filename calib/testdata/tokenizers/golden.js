// Writes the goldens of every variant with the Hugging Face tokenizers library: node golden.js TEXTS.json [VARIANT…]
// For each text, NAME.sum holds 8 bytes: the first 6 of the SHA-256 of its ids (little-endian uint32) and the first 2 of the
// SHA-256 of the decoded ids. NAME.ids.json holds the ids of the first texts in full. goldens.json holds, for each variant, the
// SHA-256 over the ids of all texts as the post-processor completes them, and over the texts decoded without special tokens.
const fs = require('fs'), path = require('path'), zlib = require('zlib'), { createHash } = require('crypto');
const { Tokenizer } = require('tokenizers');
const full = 40;

// assemble builds the tokenizer.json of a variant; the Go test has the same rules.
function assemble(v) {
  const doc = v.base ? JSON.parse(zlib.gunzipSync(fs.readFileSync(path.join(__dirname, v.base + '.json.gz')))) : { model: {} };
  for (const key of ['version', 'truncation', 'padding', 'added_tokens', 'normalizer', 'pre_tokenizer', 'post_processor', 'decoder'])
    if (v.set && key in v.set) doc[key] = v.set[key];
  doc.version = '1.0';
  Object.assign(doc.model, v.model || {});
  const ids = new Map(Object.entries(doc.model.vocab));
  for (const [a, b] of v.extra_merges || []) {
    if (!ids.has(a + b)) ids.set(a + b, doc.model.vocab[a + b] = ids.size);
    doc.model.merges.push(typeof doc.model.merges[0] === 'string' ? a + ' ' + b : [a, b]);
  }
  for (const t of doc.added_tokens || []) {
    if (!ids.has(t.content)) ids.set(t.content, ids.size);
    t.id = ids.get(t.content);
  }
  return JSON.stringify(doc, (key, value) => typeof value === 'string' && value.startsWith('ID:') ? ids.get(value.slice(3)) : value);
}

const idBytes = ids => Buffer.from(Uint32Array.from(ids).buffer);
const sha = (...parts) => { const h = createHash('sha256'); for (const p of parts) h.update(p); return h; };

async function golden(v, texts) {
  const t = Tokenizer.fromString(assemble(v));
  const sums = [], ids = [], special = createHash('sha256'), skipped = createHash('sha256');
  for (const text of texts) {
    const got = (await t.encode(text, null, { addSpecialTokens: false })).getIds();
    sums.push(sha(idBytes(got)).digest().subarray(0, 6), sha(await t.decode(got, false)).digest().subarray(0, 2));
    if (ids.length < full) ids.push(got);
    special.update(idBytes((await t.encode(text, null, { addSpecialTokens: true })).getIds()));
    skipped.update((await t.decode(got, true)) + '\n');
  }
  fs.writeFileSync(path.join(__dirname, v.name + '.sum'), Buffer.concat(sums));
  fs.writeFileSync(path.join(__dirname, v.name + '.ids.json'), '[\n' + ids.map(x => JSON.stringify(x)).join(',\n') + '\n]\n');
  return { special: special.digest('hex'), skipped: skipped.digest('hex') };
}

(async () => {
  const [textFile, ...only] = process.argv.slice(2);
  const texts = JSON.parse(fs.readFileSync(textFile, 'utf8'));
  const out = path.join(__dirname, 'goldens.json');
  const all = fs.existsSync(out) ? JSON.parse(fs.readFileSync(out)) : {};
  for (const v of JSON.parse(fs.readFileSync(path.join(__dirname, 'variants.json')))) {
    if (only.length && !only.includes(v.name)) continue;
    all[v.name] = await golden(v, texts);
    console.log(v.name, texts.length, 'texts');
  }
  fs.writeFileSync(out, JSON.stringify(all, null, 1) + '\n');
})();
