package roster

import "testing"

func BenchmarkDecodeTask(b *testing.B) {
	row := []byte(`{"id":"t-00000042","account_id":"acc-000017","title":"Call them about renewal 42","assignee_id":"u-0042","status":"open","source":"success_play","priority":"high","created_at":"2026-03-01T09:00:00Z","due_at":"2026-06-01T09:00:00Z","url":"https://crm.example.com/tasks/42"}`)
	b.SetBytes(int64(len(row)))
	b.ReportAllocs()
	for b.Loop() {
		if _, err := DecodeTask(row); err != nil {
			b.Fatal(err)
		}
	}
}
