package nn

import (
	"fmt"

	"modelpress/formats"
	"modelpress/internal/device"
)

// Embed writes the input of the first block, [T, D], for a window of token ids. Ids outside the vocabulary and, where
// positions are learned, too long a window are errors.
func (m *Model) Embed(dst []float32, ids []int32) error {
	d := m.Arch.D
	if len(dst) < len(ids)*d {
		panic(fmt.Sprintf("nn: Embed of %d ids of width %d into %d values", len(ids), d, len(dst)))
	}
	if err := m.checkWindow(ids); err != nil {
		return err
	}
	first := make(map[int32]int, len(ids)) // where each id stands first: its row is read once
	for i, id := range ids {
		row := dst[i*d : (i+1)*d]
		if j, seen := first[id]; seen {
			copy(row, dst[j*d:(j+1)*d])
			continue
		}
		first[id] = i
		if err := formats.ReadF32(m.Src, m.Arch.Embed, row, int64(id)*int64(d)); err != nil {
			return fmt.Errorf("nn: embed: %w", err)
		}
	}
	return m.addPositions(dst, len(ids))
}

// checkWindow refuses ids outside of the vocabulary, and positions that the model has not learned.
func (m *Model) checkWindow(ids []int32) error {
	if m.Arch.PosEmbed != "" && len(ids) > m.Arch.MaxPosition {
		return fmt.Errorf("nn: window of %d tokens, and the model has %d positions", len(ids), m.Arch.MaxPosition)
	}
	for i, id := range ids {
		if id < 0 || int(id) >= m.Arch.V {
			return fmt.Errorf("nn: token id %d at position %d lies outside the vocabulary of %d", id, i, m.Arch.V)
		}
	}
	return nil
}

// addPositions adds the learned position embeddings, where there are any.
func (m *Model) addPositions(dst []float32, t int) error {
	if m.Arch.PosEmbed == "" {
		return nil
	}
	d := m.Arch.D
	row := make([]float32, d)
	for i := range t {
		if err := formats.ReadF32(m.Src, m.Arch.PosEmbed, row, int64(i)*int64(d)); err != nil {
			return fmt.Errorf("nn: embed: %w", err)
		}
		for j, v := range row {
			dst[i*d+j] += v
		}
	}
	return nil
}

// EmbedBuf is Embed into a buffer of the device. On one with a memory of its own the row of each token that there is goes there once, as it
// is stored: a window takes no more than 4*T*D bytes besides. Learned positions stay there until [Model.Refresh].
func (m *Model) EmbedBuf(dst device.Buf, ids []int32) error {
	if h := m.Dev.Host(dst); h != nil {
		return m.Embed(h, ids)
	}
	d := m.Arch.D
	if dst.Len() < len(ids)*d {
		panic(fmt.Sprintf("nn: Embed of %d ids of width %d into %d values", len(ids), d, dst.Len()))
	}
	if err := m.checkWindow(ids); err != nil {
		return err
	}
	rows, place := distinct(ids)
	t, ok := m.Src.Lookup(m.Arch.Embed)
	if !ok {
		return fmt.Errorf("nn: embed: %w", formats.Errorf("", m.Arch.Embed, "no such tensor"))
	}
	if err := m.uploadRows(&m.scratch.table, KindOf(t.DType), m.Arch.Embed, rows); err != nil {
		return fmt.Errorf("nn: embed: %w", err)
	}
	m.Dev.Gather(dst, m.scratch.table, place, d)
	if m.Arch.PosEmbed == "" {
		return nil
	}
	if m.positions == nil || m.positions.Len() < len(ids)*d {
		all := make([]int32, len(ids))
		for i := range all {
			all[i] = int32(i)
		}
		if err := m.uploadRows(&m.positions, device.F32, m.Arch.PosEmbed, all); err != nil {
			return fmt.Errorf("nn: embed: %w", err)
		}
	}
	m.Dev.Add(dst, m.positions, len(ids)*d)
	return nil
}

// distinct returns the ids that there are, in the order in which they first stand, and for each of ids which of these it is.
func distinct(ids []int32) (rows, place []int32) {
	at := make(map[int32]int32, len(ids))
	place = make([]int32, len(ids))
	for i, id := range ids {
		j, seen := at[id]
		if !seen {
			j = int32(len(rows))
			at[id] = j
			rows = append(rows, id)
		}
		place[i] = j
	}
	return rows, place
}

// uploadRows makes *b rows of a tensor of width D, of a kind that its values have without loss.
func (m *Model) uploadRows(b *device.Buf, kind device.Kind, name string, rows []int32) error {
	d := m.Arch.D
	if err := m.scratch.grow(b, kind, len(rows)*d, false); err != nil {
		return err
	}
	u := m.uploader(nil)
	step := max(1, chunkBytes/(d*kind.Size()))
	for at := 0; at < len(rows); at += step {
		if err := u.rows(*b, at*d, name, rows[at:min(len(rows), at+step)], d); err != nil {
			return err
		}
	}
	return nil
}

// rows uploads some rows of width d to buf[off:], as they are stored where buf is of that type.
func (u *uploader) rows(buf device.Buf, off int, name string, rows []int32, d int) error {
	t, _ := u.src.Lookup(name)
	if raw := t.DType == formats.BF16 || t.DType == formats.F16 || t.DType == formats.F32; !raw || KindOf(t.DType) != buf.Kind() {
		v := make([]float32, len(rows)*d)
		for i, r := range rows {
			if err := formats.ReadF32(u.src, name, v[i*d:(i+1)*d], int64(r)*int64(d)); err != nil {
				return err
			}
		}
		u.dev.Upload(buf, off, v)
		return nil
	}
	n := d * t.DType.Size()
	p := u.bytes(len(rows) * n)
	for i, r := range rows {
		if err := u.src.ReadAt(name, p[i*n:(i+1)*n], int64(r)*int64(n)); err != nil {
			return err
		}
	}
	u.dev.UploadRaw(buf, off, p)
	return nil
}
