package advisory

var host = []Advisory{}
