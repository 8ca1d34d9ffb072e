// Package tabular turns the rows of other people's files into the objects of Handover's API: it reads CSV and NDJSON row
// by row, renames columns, sets constants, translates values, derives fields with templates, and joins other files.
//
//	sheet, err := tabular.Open(file, "pipeline.csv", tabular.Format{})
//	mapping, err := tabular.Spec{Fields: tabular.Tasks, Map: []string{"id=opportunity_id"}}.Compile(sheet.Columns)
//	for row, err := sheet.Next(); err != io.EOF; row, err = sheet.Next() { object, err := mapping.Apply(row) … }
//
// Rows and objects lie in room that the next ones take, so that a file of millions of rows makes no work for anybody else.
//
// Invariant: what is held in memory doesn't grow with the file, except for the files that are joined and, where repeated
// ids are left out, 16 bytes an id. The same row and the same spec always give the same object.
//
// It fails in two ways. What is wrong with the spec (a column or field that doesn't exist, a template that can't be
// parsed) is found before the first row, all of it at once. What is wrong with a row is a [*Problem] that names line,
// field and remedy; the next row is read as if nothing had happened.
package tabular
