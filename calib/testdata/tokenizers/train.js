// Trains the small vocabularies of the golden tests: node train.js CORPUS OUTDIR
const fs = require('fs'), os = require('os'), path = require('path'), zlib = require('zlib');
const { Tokenizer } = require('tokenizers');
const GPT4 = "(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}{1,3}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+";
const empty = pre => Tokenizer.fromString(JSON.stringify({ version: '1.0', truncation: null, padding: null, added_tokens: [], normalizer: null,
  pre_tokenizer: pre, post_processor: null, decoder: null, model: { type: 'BPE', vocab: {}, merges: [] } }));
function train(pre, corpus) {
  const t = empty(pre);
  t.train([corpus]);
  const tmp = path.join(os.tmpdir(), 'trained.json');
  t.save(tmp);
  return JSON.parse(fs.readFileSync(tmp)).model;
}
function write(dir, name, model) {
  fs.writeFileSync(path.join(dir, name + '.json.gz'), zlib.gzipSync(JSON.stringify({ model }), { level: 9 }));
  console.log(name, Object.keys(model.vocab).length, 'tokens', model.merges.length, 'merges');
}
const [corpus, dir] = process.argv.slice(2);

// Byte level: 256 bytes, merges, and whole words that no merge reaches (they show ignore_merges at work).
const bytes = train({ type: 'Sequence', pretokenizers: [{ type: 'Split', pattern: { Regex: GPT4 }, behavior: 'Isolated', invert: false },
  { type: 'ByteLevel', add_prefix_space: false, trim_offsets: true, use_regex: false }] }, corpus);
{
  const vocab = {}; let id = 0;
  const add = s => { if (!(s in vocab)) vocab[s] = id++; };
  for (let b = 0, n = 0; b < 256; b++) {
    const printable = b >= 33 && b <= 126 || b >= 161 && b <= 172 || b >= 174;
    add(String.fromCodePoint(printable ? b : 256 + n++));
  }
  const merges = bytes.merges.slice(0, 4500);
  for (const [a, b] of merges) add(a + b);
  for (const [a, b] of bytes.merges.slice(12000, 12400)) add(a + b);
  write(dir, 'bytes', {  type: 'BPE', dropout: null, unk_token: null, continuing_subword_prefix: null, end_of_word_suffix: null, fuse_unk: false, byte_fallback: false, ignore_merges: true, vocab, merges });
}

// Characters: unk, s, /s, 256 byte tokens, merges, single characters, as SentencePiece orders them.
const spaced = path.join(os.tmpdir(), 'spaced.txt');
fs.writeFileSync(spaced, fs.readFileSync(corpus, 'utf8').replace(/ /g, '▁'));
const chars = train({ type: 'Metaspace', replacement: '▁', prepend_scheme: 'always', split: true }, spaced);
{
  const count = new Map();
  for (const ch of fs.readFileSync(spaced, 'utf8')) count.set(ch, (count.get(ch) || 0) + 1);
  const known = new Set([...count].filter(([ch, n]) => n >= 60 && ch !== '\n').map(([ch]) => ch));
  const vocab = { '<unk>': 0, '<s>': 1, '</s>': 2 }; let id = 3;
  const add = s => { if (!(s in vocab)) vocab[s] = id++; };
  for (let b = 0; b < 256; b++) add('<0x' + b.toString(16).toUpperCase().padStart(2, '0') + '>');
  const merges = chars.merges.filter(([a, b]) => [...(a + b)].every(ch => known.has(ch))).slice(0, 4000);
  const runs = [1, 2, 4, 8].flatMap(n => [['▁'.repeat(n), '▁'.repeat(n)], ['▁'.repeat(2 * n), '▁']]); // Llama 2 has runs of ▁ too
  merges.splice(10, 0, ...runs);
  for (const [a, b] of merges) add(a + b);
  for (const ch of [...known].sort()) add(ch);
  write(dir, 'chars', { type: 'BPE', dropout: null, unk_token: '<unk>', continuing_subword_prefix: null, end_of_word_suffix: null, fuse_unk: true, byte_fallback: true, ignore_merges: false, vocab, merges: merges.map(([a, b]) => a + ' ' + b) });
}
