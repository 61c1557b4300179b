#pragma once
#include <stdlib.h>
#include <unistd.h>
#include <xlsxwriter.h>

// A workbook whose rows go to a scratch file as they come. The options are copied by the library; the folder
// has to live as long as the workbook does.
static inline lxw_workbook *convoke_begin_workbook(const char *path, const char *folder) {
    lxw_workbook_options options = {.constant_memory = LXW_TRUE, .tmpdir = folder, .use_zip64 = LXW_TRUE};
    return workbook_new_opt(path, &options);
}

// Gives a workbook up. `lxw_workbook_free` of 1.1.4 leaves open the files that hold the rows.
static inline void convoke_discard_workbook(lxw_workbook *workbook) {
    lxw_worksheet *sheet;
    STAILQ_FOREACH(sheet, workbook->worksheets, list_pointers) {
        if (sheet->optimize_tmpfile) {
            fclose(sheet->optimize_tmpfile);
            sheet->optimize_tmpfile = NULL;
        }
    }
    lxw_workbook_free(workbook);
}
