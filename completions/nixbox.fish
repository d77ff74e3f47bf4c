# fish completion for nixbox. Verbs and options come from the program's own --help, so this cannot fall behind it.
function __nixbox_verbs
    nixbox --help 2>/dev/null | string replace -rf '^  ([a-z]+) +(.*)' '$1\t$2'
end
function __nixbox_verb
    for word in (commandline -opc)[2..-1]
        string match -q -- '-*' $word; or begin
            echo $word
            return 0
        end
    end
    return 1
end
function __nixbox_options
    nixbox (__nixbox_verb) --help 2>/dev/null | string match -ra -- '(?<![A-Za-z0-9-])--?[A-Za-z][A-Za-z-]*' | sort -u
end
complete -c nixbox -n 'not __nixbox_verb' -f -a '(__nixbox_verbs)'
complete -c nixbox -n 'string match -q -- "-*" (commandline -ct)' -f -a '(__nixbox_options)'
