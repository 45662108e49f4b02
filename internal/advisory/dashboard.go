package advisory

var dashboard = []Advisory{}
