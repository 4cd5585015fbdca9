package pipeline

import (
	"bytes"
	"encoding/json"
	"fmt"

	"modelpress/formats/planfile"
)

// ReportSchema is the version of report.json.
const ReportSchema = "compress-report/v1"

// Report is what a result says about itself: which plan made it, the digest of every file and of all tensors, what each
// matrix lost, and the verdicts on held-out data. It holds no clock, host or path, so equal runs have equal reports.
type Report struct {
	Schema        string        `json:"schema"`
	PlanID        string        `json:"plan_id"`
	Tool          planfile.Tool `json:"tool"`
	DeviceClass   string        `json:"device_class"`
	SourceWeights string        `json:"source_weights_digest"`
	WeightsDigest string        `json:"weights_digest"`
	HeadersDigest string        `json:"headers_digest"`
	ConfigDigest  string        `json:"config_digest"`
	BytesBefore   int64         `json:"tensor_bytes_before"`
	BytesAfter    int64         `json:"tensor_bytes_after"`
	FellBack      []string      `json:"fell_back"` // tensors that a plainer method compressed because their Hessian failed
	Gates         []gateResult  `json:"gates"`
	Quality       *quality      `json:"quality,omitempty"`
	Sparsity      *sparsity     `json:"sparsity,omitempty"`
	Matrices      []tensorNote  `json:"matrices"`
	// Conversion is what a conversion says of itself; it has no plan.
	Conversion json.RawMessage `json:"conversion,omitempty"`
	Files      []fileSum       `json:"files"` // every file of the result but this one, sorted by name
}

// fileSum is a file of the result.
type fileSum struct {
	Name   string `json:"name"`
	Bytes  int64  `json:"bytes"`
	SHA256 string `json:"sha256"`
}

// Passed reports whether every gate held.
func (r *Report) Passed() bool {
	for _, g := range r.Gates {
		if !g.Passed {
			return false
		}
	}
	return true
}

// Plainer names what compresses a matrix whose Hessian failed.
func (r *Report) Plainer() string {
	if r.Sparsity != nil {
		return "a plainer choice of weights"
	}
	return "plain rounding"
}

func (r *Report) encode() ([]byte, error) {
	b, err := json.MarshalIndent(r, "", " ")
	if err != nil {
		return nil, fmt.Errorf("pipeline: report: %w", err)
	}
	return append(b, '\n'), nil
}

func decodeReport(b []byte) (*Report, error) {
	d := json.NewDecoder(bytes.NewReader(b))
	d.DisallowUnknownFields()
	r := &Report{}
	if err := d.Decode(r); err != nil {
		return nil, errKind(KindGate, "", "%s: %w", reportName, err)
	}
	if r.Schema != ReportSchema {
		return nil, errKind(KindGate, "", "%s: schema %q, this build reads %s", reportName, r.Schema, ReportSchema)
	}
	return r, nil
}
