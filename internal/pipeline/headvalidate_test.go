package pipeline

import (
	"encoding/json"
	"strings"
	"testing"
)

func TestMetricKinds(t *testing.T) {
	for name, want := range map[string]string{
		"perplexity": namePerplexity, "perplexity@512": namePerplexity, "kl": nameKL, "kl@1024": nameKL,
		"needle_accuracy": nameNeedle, "needle_accuracy_multi-key@512": nameNeedle,
		"needle_answer_nll": nameNeedleNLL, "needle_answer_nll_key-value@64": nameNeedleNLL, "needle_accuracyx": "needle_accuracyx",
	} {
		if got := (metric{Name: name}).kind(); got != want {
			t.Errorf("%s is of kind %s, want %s", name, got, want)
		}
	}
}

// TestPlanGates: the worst of tasks and lengths counts, and what was not measured fails nothing at plan time.
func TestPlanGates(t *testing.T) {
	m := func(name, dense, plan string) metric { return metric{name, json.Number(dense), json.Number(plan)} }
	list := []metric{m("perplexity", "5", "5.1"), m("perplexity@512", "6", "6.6"), m("kl", "0", "0.02"), m("kl@512", "0", "0.01"),
		m("needle_accuracy", "1", "1"), m("needle_accuracy_multi-key@512", "0.9", "0.8"), m("needle_answer_nll", "0.1", "3")}
	c := costOf(list)
	if !c.text || !c.needles || number(c.drop) != "0.1" || number(c.ratio) != "1.1" || number(c.kl) != "0.02" {
		t.Errorf("%+v", c)
	}
	for _, g := range []struct {
		gates Gates
		fails string
	}{
		{Gates{}, ""},
		{Gates{PPLRatio: 1.001, KL: 0.001}, ""}, // of the result against its source: for apply
		{Gates{NeedleDrop: 0.1, PlanPPLRatio: 1.1, PlanKL: 0.02}, ""},
		{Gates{NeedleDrop: 0.09}, metricNeedleDrop},
		{Gates{PlanPPLRatio: 1.09}, metricPlanPPL},
		{Gates{PlanKL: 0.019}, metricPlanKL},
	} {
		err := gatePlan(list, g.gates)
		if (err != nil) != (g.fails != "") || err != nil && (KindOf(err) != KindGate || !strings.Contains(err.Error(), g.fails)) {
			t.Errorf("%+v: %v", g.gates, err)
		}
		if err := gatePlan(nil, g.gates); err != nil {
			t.Errorf("%+v with nothing measured: %v", g.gates, err)
		}
		if (&quality{Plan: list}).planPassed(g.gates) != (g.fails == "" && g.gates.NeedleDrop >= 0.1) {
			t.Errorf("%+v: passed is wrong", g.gates)
		}
	}
}

func TestCutWindows(t *testing.T) {
	bos := int32(9)
	stream := []int32{1, 2, 3, 4, 5, 6, 7}
	if got := cutWindows(stream, &bos, 4, 5); len(got) != 2 || got[1][0] != 9 || got[1][1] != 4 || len(got[1]) != 4 {
		t.Errorf("%v", got)
	}
	if got := cutWindows(stream, nil, 3, 1); len(got) != 1 || got[0][0] != 1 {
		t.Errorf("%v", got)
	}
	if got := cutWindows(stream, nil, 8, 3); len(got) != 0 {
		t.Errorf("%v", got)
	}
}
